-- What an analyst looks at: a row a day, airport and carrier, all written anew at each run.
INSERT OVERWRITE gold.daily_departures
SELECT
  flight_date, origin, carrier_name,
  count(*) AS departures,
  sum(seats) AS seats,
  count(*) FILTER (WHERE dep_delay > 15) AS late,
  -- a sum of decimals does not depend on the order of its rows, as one of reals does
  sum(CAST(late_probability AS DECIMAL(9, 6))) AS late_expected,
  avg(dep_delay) AS mean_delay_minutes
FROM silver.departures
GROUP BY flight_date, origin, carrier_name;
