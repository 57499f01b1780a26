-- Pages of documentation in Markdown. A record replaces the page of its key, one without a value takes it away.
CREATE TABLE bronze.pages (
  page_id STRING NOT NULL,
  title STRING,
  body STRING,
  PRIMARY KEY (page_id) NOT ENFORCED
)
WITH (
  'connector' = 'kafka',
  'topic' = 'pages',
  'value.format' = 'json',
  'key.format' = 'raw',
  'key.fields' = 'page_id',
  'changelog.mode' = 'upsert',
  'commit.interval' = '10 s'
);

-- Questions as they are asked. One that comes again, with the same question_id, is answered again.
CREATE TABLE bronze.questions (
  question_id STRING NOT NULL,
  question STRING,
  asked_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
)
WITH ('connector' = 'kafka', 'topic' = 'questions', 'value.format' = 'json', 'commit.interval' = '1 s');
