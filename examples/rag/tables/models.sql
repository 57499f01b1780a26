-- Vectors of chunks and questions, made in this process: any folder of model.onnx and tokenizer.json in the layout of
-- sentence-transformers. The one of the flights example is 3.6 MB and knows the words of Python's documentation.
CREATE MODEL embedder
INPUT (text STRING)
OUTPUT (embedding ARRAY<FLOAT>)
WITH (
  'provider' = 'onnx',
  'task' = 'embedding',
  'model_path' = '${RAG_EMBEDDINGS:-../flights/models/docs-embedding}'
);

-- Reads numbered chunks and answers from them alone. Who it is, the environment says: see the README.
CREATE MODEL reader
INPUT (question STRING, chunks STRING)
OUTPUT (answer STRING, citations ARRAY<INT> NOT NULL)
WITH (
  'provider' = '${RAG_PROVIDER:-openai}',
  'task' = 'text_generation',
  'model' = '${RAG_MODEL:-gpt-4.1-mini}',
  'endpoint' = '${RAG_ENDPOINT:-https://api.openai.com/v1}',
  'api-key' = '{{ secret.RAG_API_KEY }}',
  'max-tokens' = '800',
  'system-prompt' = 'You answer questions about documentation from numbered chunks of it, in one to three sentences. Say nothing that the chunks do not say. In citations name the number of every chunk that you used, and no others. Where the chunks do not hold the answer, answer is null and citations is empty.',
  'prompt' = 'Question: {question}

Chunks:

{chunks}'
);
