INSERT INTO bronze.docs VALUES
  ('a', 'A refund takes five days. Ask for a refund in your account.'),
  ('b', 'The delivery of an order takes two days.'),
  ('c', 'A new password is sent by mail. The login waits an hour.');

INSERT INTO bronze.items VALUES (1, 'coffee mug', 10.0), (2, 'tea', 5.0), (3, 'coffee', 20.0);

INSERT INTO bronze.questions VALUES (1, 'When do I get my refund?'), (2, 'I forgot my password');

INSERT INTO bronze.tickets VALUES
  (1, 'My order 17 is broken!'), (2, 'I would like a refund for order 18, please'), (3, 'Thank you');

INSERT INTO bronze.visits VALUES (1, 'coffee'), (2, 'a mug for tea');

INSERT INTO dim.stores VALUES (1, 'Oslo', 2.0), (2, 'Rome', 5.0);

INSERT INTO bronze.sales VALUES
  (1, 10.0, TIMESTAMP '2024-05-01 10:05:00'), (1, 5.0, TIMESTAMP '2024-05-01 10:55:00'), (2, 8.0, TIMESTAMP '2024-05-01 10:30:00');
