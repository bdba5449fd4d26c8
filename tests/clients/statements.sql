-- Statements exactly as object-relational mappers send them, captured with log_statement from the
-- models of host/docs/orms.md. Of each: who sends it; the statement; how many rows it enqueues;
-- what it gives for its parameters.

-- SQLAlchemy 2.1.9, psycopg 3.3.9: session.add()
INSERT INTO queue.emails__orm (payload, headers, run_at, expires_at, priority, key, unique_key) VALUES ($1::JSONB, $2::JSONB, $3::TIMESTAMP WITH TIME ZONE, $4::TIMESTAMP WITH TIME ZONE, $5::SMALLINT, $6::VARCHAR, $7::VARCHAR) RETURNING queue.emails__orm.id
-- 1: '{"to": "ada"}', 'null', NULL, NULL, NULL, NULL, NULL

-- SQLAlchemy 2.1.9, psycopg 3.3.9: session.add_all()
INSERT INTO queue.emails__orm (payload, run_at, expires_at, priority, key, unique_key) SELECT p0::JSONB, p1::TIMESTAMP WITH TIME ZONE, p2::TIMESTAMP WITH TIME ZONE, p3::SMALLINT, p4::VARCHAR, p5::VARCHAR FROM (VALUES ($1::JSONB, $2::TIMESTAMP WITH TIME ZONE, $3::TIMESTAMP WITH TIME ZONE, $4::SMALLINT, $5::VARCHAR, $6::VARCHAR, 0), ($7::JSONB, $8::TIMESTAMP WITH TIME ZONE, $9::TIMESTAMP WITH TIME ZONE, $10::SMALLINT, $11::VARCHAR, $12::VARCHAR, 1), ($13::JSONB, $14::TIMESTAMP WITH TIME ZONE, $15::TIMESTAMP WITH TIME ZONE, $16::SMALLINT, $17::VARCHAR, $18::VARCHAR, 2)) AS imp_sen(p0, p1, p2, p3, p4, p5, sen_counter) ORDER BY sen_counter RETURNING queue.emails__orm.id, queue.emails__orm.id AS id__1
-- 3: '{"n": 0}', NULL, NULL, NULL, NULL, NULL, '{"n": 1}', NULL, NULL, NULL, NULL, NULL, '{"n": 2}', NULL, NULL, NULL, NULL, NULL

-- Django 5.2.19: objects.create()
INSERT INTO "queue"."emails__orm" ("payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") VALUES ('{"to": "ada"}'::jsonb, NULL, NULL, NULL, NULL, NULL, NULL) RETURNING "queue"."emails__orm"."id"
-- 1:

-- Django 5.2.19: objects.bulk_create()
INSERT INTO "queue"."emails__orm" ("payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") SELECT * FROM UNNEST(( E'{"{\\"n\\": 0}","{\\"n\\": 1}","{\\"n\\": 2}"}'::jsonb[])::jsonb[], ('{NULL,NULL,NULL}')::jsonb[], ('{NULL,NULL,NULL}')::timestamp with time zone[], ('{NULL,NULL,NULL}')::timestamp with time zone[], ('{NULL,NULL,NULL}')::smallint[], ('{NULL,NULL,NULL}')::text[], ('{NULL,NULL,NULL}')::text[]) RETURNING "queue"."emails__orm"."id"
-- 3:

-- Drizzle 0.45.4: insert().values().returning()
insert into "queue"."emails__orm" ("id", "payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") values (default, $1, default, default, default, default, default, default) returning "id", "payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key"
-- 1: '{"to": "ada"}'

-- Drizzle 0.45.4: insert().values([])
insert into "queue"."emails__orm" ("id", "payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") values (default, $1, default, default, default, default, default, default), (default, $2, $3, default, default, default, default, default) returning "id"
-- 2: '1', '2', '{"a": "b"}'

-- Sequelize 6.37.8: create()
INSERT INTO "queue"."emails__orm" ("id","payload") VALUES (DEFAULT,$1) RETURNING "id","payload","headers","run_at","expires_at","priority","key","unique_key";
-- 1: '{"to": "ada"}'

-- Sequelize 6.37.8: bulkCreate()
INSERT INTO "queue"."emails__orm" ("id","payload") VALUES (DEFAULT,'1'),(DEFAULT,'2') RETURNING "id","payload","headers","run_at","expires_at","priority","key","unique_key";
-- 2:

-- TypeORM 1.1.1: save()
INSERT INTO "queue"."emails__orm"("payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") VALUES ($1, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT) RETURNING "id"
-- 1: '{"to": "ada"}'

-- TypeORM 1.1.1: save([])
INSERT INTO "queue"."emails__orm"("payload", "headers", "run_at", "expires_at", "priority", "key", "unique_key") VALUES ($1, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT), ($2, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT) RETURNING "id"
-- 2: '1', '2'

-- Prisma 6.19.3: create()
INSERT INTO "queue"."emails__orm" ("payload","headers") VALUES ($1,$2) RETURNING "queue"."emails__orm"."id", "queue"."emails__orm"."payload", "queue"."emails__orm"."headers", "queue"."emails__orm"."run_at", "queue"."emails__orm"."expires_at", "queue"."emails__orm"."priority", "queue"."emails__orm"."key", "queue"."emails__orm"."unique_key"
-- 1: '{"to": "ada"}', 'null'

-- Prisma 6.19.3: createMany({ skipDuplicates: true })
INSERT INTO "queue"."emails__orm" ("payload") VALUES ($1), ($2) ON CONFLICT DO NOTHING
-- 2: '1', '2'

-- ActiveRecord 6.1.7.10: create!
INSERT INTO "queue"."emails__orm" ("payload") VALUES ($1) RETURNING "id"
-- 1: '{"to": "ada"}'

-- JDBC 42.5.5: RETURN_GENERATED_KEYS
INSERT INTO queue.emails__orm (payload) VALUES ($1::jsonb)
RETURNING *
-- 1: '{}'

-- JDBC 42.5.5: the names of the columns
INSERT INTO queue.emails (payload) VALUES ($1::jsonb)
RETURNING "id"
-- 1: '{}'
