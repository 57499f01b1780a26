-- Each flight with its carrier, its plane, the weather an hour before it was to leave, and how likely it was to leave late.
-- Its records come in any order, some twice: the last one of a flight stands.
INSERT INTO silver.departures
SELECT
  carrier, flight, time_hour, make_date(year, month, day), origin, dest, tailnum, carrier_name, manufacturer, seats,
  observed_at, wind_speed, visib, dep_delay, arr_delay, late_probability
FROM ML_PREDICT(
  TABLE (
    SELECT
      f.*,
      f.hour + f.minute / 60.0 AS dep_hour,
      isodow(make_date(f.year, f.month, f.day)) AS day_of_week,
      c.name AS carrier_name,
      p.manufacturer,
      p.seats,
      w.time_hour AS observed_at,
      -- a station that has reported nothing yet: a calm, clear, ordinary day
      coalesce(w.humid, 60.0) AS humid,
      coalesce(w.wind_speed, 10.0) AS wind_speed,
      coalesce(w.wind_gust, 0.0) AS wind_gust,
      coalesce(w.precip, 0.0) AS precip,
      coalesce(w.visib, 10.0) AS visib
    FROM bronze.flights AS f
    LEFT JOIN dim.carriers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.carrier = f.carrier
    LEFT JOIN dim.planes FOR SYSTEM_TIME AS OF PROCTIME() AS p ON p.tailnum = f.tailnum
    LEFT JOIN dim.weather FOR SYSTEM_TIME AS OF f.time_hour - INTERVAL '1' HOUR AS w ON w.origin = f.origin
  ),
  MODEL delay_classifier,
  DESCRIPTOR(dep_hour, day_of_week, distance, carrier, origin, dest, humid, wind_speed, wind_gust, precip, visib)
);
