INSERT INTO bronze.questions VALUES (3, 'How long does the delivery of my order take?');

INSERT INTO bronze.tickets VALUES (4, 'Can I have my invoice today, please'), (5, 'refund order 19 now!');

INSERT INTO bronze.visits VALUES (3, 'tea and coffee');

INSERT INTO bronze.sales VALUES (2, 2.0, TIMESTAMP '2024-05-01 10:59:59'), (1, 1.0, TIMESTAMP '2024-05-01 11:00:00');
