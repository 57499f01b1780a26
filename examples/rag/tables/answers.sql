-- Answers, with the chunks that they cite, their pages and how near they were, the chunks that the model was given, and the snapshot of
-- gold.chunks up to which doc_index held rows when the question was answered. `lakeflow produce` sends them back to a topic.
CREATE TABLE gold.answers (
  question_id STRING NOT NULL,
  question STRING,
  answer STRING,
  cited ARRAY<STRING>,
  pages ARRAY<STRING>,
  scores ARRAY<DOUBLE>,
  given ARRAY<STRING>,
  invented INT,
  index_snapshot_id BIGINT,
  asked_at TIMESTAMP_LTZ(3)
)
WITH (
  'sink.topic' = 'answers',
  'sink.key' = 'question_id',
  'sink.key.format' = 'raw',
  'sink.delivery' = '${RAG_DELIVERY:-exactly-once}'
);
