CREATE VECTOR INDEX docs_index ON gold.doc_embeddings (embedding)
WITH (
  'key' = 'doc_id',
  'metric' = 'cosine',
  'model' = 'docs_embedding',
  'columns' = 'module, name, kind, signature, text'
);
