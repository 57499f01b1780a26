-- A topic that lands in a table: one JSON object a record, checked against these columns.
-- Name your own topic and columns, set [kafka] in lakeflow.toml, then: lakeflow land
CREATE TABLE bronze.orders (
  order_id STRING NOT NULL,  -- NOT NULL: a record without it is rejected
  customer STRING,
  amount DOUBLE,
  ordered_at TIMESTAMP_LTZ(6)
)
PARTITIONED BY (day(ordered_at))
WITH (
  'connector' = 'kafka',
  'topic' = 'orders',
  'value.format' = 'json',
  'on_error' = 'dead_letter'  -- rejected records go to lakeflow.dead_letters; also: suspend, skip
);
