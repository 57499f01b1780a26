-- Each flight once, whatever came of it in how many records: the job departures merges by the key.
CREATE TABLE silver.departures (
  carrier STRING NOT NULL,
  flight INT NOT NULL,
  time_hour TIMESTAMP_LTZ(6) NOT NULL,
  flight_date DATE,
  origin STRING,
  dest STRING,
  tailnum STRING,
  carrier_name STRING,
  manufacturer STRING,
  seats INT,
  observed_at TIMESTAMP_LTZ(6) COMMENT 'when the weather was observed',
  wind_speed DOUBLE,
  visib DOUBLE,
  dep_delay DOUBLE,
  arr_delay DOUBLE,
  late_probability DOUBLE,
  PRIMARY KEY (carrier, flight, time_hour) NOT ENFORCED
)
PARTITIONED BY (day(time_hour));
