CREATE VECTOR INDEX doc_index ON gold.chunks (embedding)
WITH (
  'key' = 'chunk_id',
  'metric' = 'cosine',
  'model' = 'embedder',
  'columns' = 'page_id, text',
  'text_columns' = 'text'
);
