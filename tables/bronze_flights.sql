-- Every departure from New York as its record says it; units in examples/flights/data/README.md.
CREATE TABLE bronze.flights (
  year INT,
  month INT,
  day INT,
  dep_time INT,
  sched_dep_time INT,
  dep_delay DOUBLE,
  arr_time INT,
  sched_arr_time INT,
  arr_delay DOUBLE,
  carrier STRING,
  flight INT,
  tailnum STRING,
  origin STRING,
  dest STRING,
  air_time DOUBLE,
  distance DOUBLE,
  hour INT,
  minute INT,
  time_hour TIMESTAMP_LTZ(6),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '5' MINUTE
)
PARTITIONED BY (day(time_hour))
WITH (
  'connector' = 'kafka',
  'topic' = 'flights',
  'value.format' = 'json',
  'on_error' = 'dead_letter'
);
