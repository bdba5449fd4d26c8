;; The handlers of a benchmark: each acks every message. What is in braces is what one does before that; for
;; the no-op, nothing. The interface is wit/handler.wit.
(component
    (import "host:jobs/types@1.0.0" (instance $types
        (type $trace' (record (field "traceparent" string) (field "tracestate" string)))
        (export "trace-context" (type $trace (eq $trace')))
        (type $message' (record
            (field "id" string) (field "queue" string) (field "payload" (list u8))
            (field "content-type" string) (field "headers" (list (tuple string string)))
            (field "attempt" u32) (field "max-attempts" u32) (field "enqueued-at-ms" u64)
            (field "deadline-ms" u64) (field "trace" (option $trace))))
        (export "message" (type (eq $message')))
        (type $retry' (record (field "after-ms" (option u64)) (field "reason" string)))
        (export "retry-options" (type $retry (eq $retry')))
        (type $failure' (record (field "reason" string)))
        (export "failure" (type $failure (eq $failure')))
        (type $verdict' (variant (case "ack") (case "retry" $retry) (case "dead-letter" $failure)))
        (export "verdict" (type (eq $verdict')))))
    (alias export $types "message" (type $message))
    (alias export $types "verdict" (type $verdict))

    ;; Memory, and a place in it for what the host hands over: one after the other, until the call is over.
    (core module $base
        (memory (export "memory") 1)
        (global $free (mut i32) (i32.const 1024))
        (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
            (result i32)
            (local $at i32) (local $beyond i32)
            (local.set $at (i32.and
                (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get $align))))
            (global.set $free (i32.add (local.get $at) (local.get $size)))
            (local.set $beyond (i32.sub (global.get $free) (i32.shl (memory.size) (i32.const 16))))
            (if (i32.gt_s (local.get $beyond) (i32.const 0)) (then
                (if (i32.lt_s
                        (memory.grow (i32.add (i32.shr_u (local.get $beyond) (i32.const 16)) (i32.const 1)))
                        (i32.const 0))
                    (then unreachable))))
            (local.get $at))
        (func (export "reset") (global.set $free (i32.const 1024))))
    (core instance $base (instantiate $base))

    {imports}
    (core module $main
        (import "base" "memory" (memory 1))
        (import "base" "reset" (func $reset))
        {linked}
        (func (export "handle") (param $message i32) (result i32)
            {first}
            ;; The verdict is at 0, where nobody writes: zero is ack.
            (i32.const 0))
        (func (export "done") (param i32) (call $reset)))
    (core instance $main (instantiate $main (with "base" (instance $base)) {host}))
    (func (export "handle") (param "message" $message) (result $verdict)
        (canon lift (core func $main "handle") (memory (core memory $base "memory"))
            (realloc (core func $base "realloc")) (post-return (core func $main "done")))))
