-- What flights are joined with; units in examples/flights/data/README.md.
CREATE TABLE dim.carriers (
  carrier STRING NOT NULL,
  name STRING
)
WITH ('connector' = 'kafka', 'topic' = 'carriers', 'value.format' = 'json');

CREATE TABLE dim.airports (
  faa STRING NOT NULL,
  name STRING,
  lat DOUBLE,
  lon DOUBLE,
  alt INT,
  tz INT,
  dst STRING,
  tzone STRING
)
WITH ('connector' = 'kafka', 'topic' = 'airports', 'value.format' = 'json');

CREATE TABLE dim.planes (
  tailnum STRING NOT NULL,
  year INT,
  type STRING,
  manufacturer STRING,
  model STRING,
  engines INT,
  seats INT,
  speed INT,
  engine STRING
)
WITH ('connector' = 'kafka', 'topic' = 'planes', 'value.format' = 'json');

-- An observation is valid until the next one of its station: FOR SYSTEM_TIME AS OF finds the last one before a moment.
CREATE TABLE dim.weather (
  origin STRING NOT NULL,
  year INT,
  month INT,
  day INT,
  hour INT,
  temp DOUBLE,
  dewp DOUBLE,
  humid DOUBLE,
  wind_dir DOUBLE,
  wind_speed DOUBLE,
  wind_gust DOUBLE,
  precip DOUBLE,
  pressure DOUBLE,
  visib DOUBLE,
  time_hour TIMESTAMP_LTZ(6) NOT NULL,
  PRIMARY KEY (origin) NOT ENFORCED
)
WITH ('connector' = 'kafka', 'topic' = 'weather', 'value.format' = 'json', 'valid_from' = 'time_hour');
