-- A cascade: a cheap model scores every ticket, the expensive one is asked about those alone that the first is unsure of.
INSERT INTO gold.triaged
SELECT
  ticket_id,
  urgency,
  CASE
    WHEN urgency > 0.6 THEN 'urgent'
    WHEN urgency < 0.4 THEN 'normal'
    ELSE AI_COMPLETE('assistant', 'Is this urgent? ' || body)
  END AS verdict
FROM ML_PREDICT(TABLE bronze.tickets, MODEL urgency, DESCRIPTOR(body));
