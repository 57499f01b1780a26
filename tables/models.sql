-- Probability that a flight leaves more than 15 minutes late; trained by examples/flights/train_delay.py.
CREATE MODEL delay_classifier
INPUT (
  dep_hour DOUBLE,
  day_of_week INT,
  distance DOUBLE,
  carrier STRING,
  origin STRING,
  dest STRING,
  humid DOUBLE,
  wind_speed DOUBLE,
  wind_gust DOUBLE,
  precip DOUBLE,
  visib DOUBLE
)
OUTPUT (late_probability DOUBLE)
WITH (
  'provider' = 'onnx',
  'task' = 'classification',
  'model_path' = 'examples/flights/models/delay.onnx',
  'outputs' = 'probabilities[1]:late_probability'
);

-- Vectors of documentation, 256 wide; made by examples/flights/train_embedding.py. Any folder of
-- model.onnx and tokenizer.json in the layout of sentence-transformers can stand here.
CREATE MODEL docs_embedding
INPUT (text STRING)
OUTPUT (embedding ARRAY<FLOAT>)
WITH (
  'provider' = 'onnx',
  'task' = 'embedding',
  'model_path' = 'examples/flights/models/docs-embedding'
);
