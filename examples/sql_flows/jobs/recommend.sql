-- A chain of three stages over each visit: embed what it is about, search the nearest items, predict which will be clicked.
INSERT INTO gold.recommended
SELECT v.visit_id, i.item_id, i.title, c.click_probability
FROM bronze.visits AS v
CROSS JOIN LATERAL TABLE(ML_PREDICT('embedder', v.interest)) AS e(taste)
CROSS JOIN LATERAL TABLE(VECTOR_SEARCH(TABLE silver.catalogue, DESCRIPTOR(embedding), e.taste, 2)) AS i
CROSS JOIN LATERAL TABLE(ML_PREDICT('click', i.score, i.price)) AS c
WHERE c.click_probability > 0.1;
