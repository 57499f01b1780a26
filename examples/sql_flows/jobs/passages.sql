-- Documents with their vectors, for the searches below.
INSERT INTO silver.passages
SELECT doc_id, body, ML_EMBED(MODEL embedder, body) AS embedding
FROM bronze.docs;
