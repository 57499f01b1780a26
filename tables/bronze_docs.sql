-- The documentation strings of Python's standard library, a row a public function, class or method.
CREATE TABLE bronze.docs (
  doc_id STRING NOT NULL,
  module STRING,
  name STRING,
  kind STRING,
  signature STRING,
  text STRING
)
WITH ('connector' = 'kafka', 'topic' = 'docs', 'value.format' = 'json');
