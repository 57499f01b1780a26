-- Items with the vectors of their titles.
INSERT INTO silver.catalogue
SELECT item_id, title, price, vector AS embedding
FROM ML_PREDICT(TABLE bronze.items, MODEL embedder, DESCRIPTOR(title));
