-- What comes in. In production each would be landed from a topic: WITH ('connector' = 'kafka', 'topic' = ..).
CREATE TABLE bronze.docs (doc_id STRING NOT NULL, body STRING);

CREATE TABLE bronze.questions (question_id INT NOT NULL, question STRING);

CREATE TABLE bronze.tickets (ticket_id INT NOT NULL, body STRING);

CREATE TABLE bronze.items (item_id INT NOT NULL, title STRING, price DOUBLE);

CREATE TABLE bronze.visits (visit_id INT NOT NULL, interest STRING);

CREATE TABLE bronze.sales (store_id INT NOT NULL, amount DOUBLE, sold_at TIMESTAMP(6));

CREATE TABLE dim.stores (store_id INT NOT NULL, city STRING, size DOUBLE);
