-- Sales by the hour, joined to the store and predicted. An hour may still grow, so the table is made anew each time.
INSERT OVERWRITE gold.forecast
SELECT window_start, store_id, city, sales, expected
FROM ML_PREDICT(
  TABLE (
    SELECT h.window_start, h.store_id, s.city, s.size, h.sales
    FROM (
      SELECT window_start, window_end, store_id, sum(amount) AS sales
      FROM TUMBLE(TABLE bronze.sales, DESCRIPTOR(sold_at), INTERVAL '1' HOUR)
      GROUP BY window_start, window_end, store_id
    ) AS h
    JOIN dim.stores FOR SYSTEM_TIME AS OF PROCTIME() AS s ON s.store_id = h.store_id
  ),
  MODEL next_hour,
  DESCRIPTOR(sales, size)
);
