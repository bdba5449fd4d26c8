-- Part: the present snapshot, and what is committed in it as ranges of transactions.
present := txid_current_snapshot();
done := int8multirange(int8range(0, txid_snapshot_xmax(present)))
    - coalesce((SELECT range_agg(int8range(x, x + 1)) FROM txid_snapshot_xip(present) x), '{}');
