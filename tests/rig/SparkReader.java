import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.spark.sql.SparkSession;

/**
 * Spark SQL over HTTP, on the loopback address only. POST / with a folder on the first line, key=value settings of a
 * session on those up to an empty one, and a query after it, writes the answer of the query into the folder as Parquet;
 * 400 with the error where the query fails. Arguments: the port, then key=value settings of all sessions.
 */
class SparkReader {
  private static final Map<String, SparkSession> sessions = new HashMap<>();

  public static void main(String[] arguments) throws Exception {
    SparkSession.Builder builder = SparkSession.builder().master("local[1]").appName("reader");
    for (int place = 1; place < arguments.length; place++) {
      String[] pair = arguments[place].split("=", 2);
      builder.config(pair[0], pair[1]);
    }
    SparkSession spark = builder.getOrCreate();
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
    server.createContext("/", exchange -> answer(spark, exchange));
    server.start();
  }

  private static void answer(SparkSession spark, HttpExchange exchange) throws IOException {
    String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
    String fault = "";
    try {
      if (exchange.getRequestMethod().equals("POST")) {
        String[] asked = body.split("\n\n", 2);
        String[] head = asked[0].split("\n", 2);
        session(spark, head[1]).sql(asked[1]).coalesce(1).write().parquet(head[0]);
      }
    } catch (Throwable error) {
      error.printStackTrace();
      fault = error.toString();
    }
    byte[] said = fault.getBytes(StandardCharsets.UTF_8);
    exchange.sendResponseHeaders(fault.isEmpty() ? 200 : 400, said.length == 0 ? -1 : said.length);
    exchange.getResponseBody().write(said);
    exchange.close();
  }

  private static SparkSession session(SparkSession spark, String settings) {
    return sessions.computeIfAbsent(settings, lines -> {
      SparkSession fresh = spark.newSession();
      for (String line : lines.split("\n")) {
        String[] pair = line.split("=", 2);
        fresh.conf().set(pair[0], pair[1]);
      }
      return fresh;
    });
  }
}
