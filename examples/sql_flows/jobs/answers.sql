-- Retrieval-augmented answers in one statement: embed the question, search the three nearest passages, put them together, ask.
INSERT INTO gold.answers
SELECT
  q.question_id,
  q.question,
  found.sources,
  AI_COMPLETE('assistant', 'Context: ' || found.context || ' Question: ' || q.question) AS answer
FROM bronze.questions AS q
CROSS JOIN LATERAL (
  SELECT
    string_agg(d.body, ' ' ORDER BY d.score DESC, d.doc_id) AS context,
    string_agg(d.doc_id, ',' ORDER BY d.score DESC, d.doc_id) AS sources
  FROM TABLE(VECTOR_SEARCH(TABLE silver.passages, DESCRIPTOR(embedding), ML_EMBED(MODEL embedder, q.question), 3)) AS d
) AS found;
