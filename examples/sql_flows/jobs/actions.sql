-- An agent answers in JSON, and JSON functions take its answer apart.
INSERT INTO gold.actions
SELECT
  ticket_id,
  reply ->> '$.action' AS action,
  CAST(reply ->> '$.arguments.order_id' AS INT) AS order_id,
  CAST(reply ->> '$.sure' AS BOOLEAN) AS sure
FROM ML_PREDICT(TABLE bronze.tickets, MODEL agent, DESCRIPTOR(body));
