import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Many requests at once with Kafka's own Java client: each reply completes the future that asked.
 *
 * <p>Needs org.apache.kafka:kafka-clients and com.fasterxml.jackson.core:jackson-databind on the class path, Java 17:
 *
 * <pre>java -cp "libs/*" docs/clients/RequestReply.java [REQUESTS] [USERS]</pre>
 *
 * <p>OPPU_KAFKA_BOOTSTRAP_SERVERS names the broker (default localhost:9092). Prints a line for each reply: user,
 * request and output; exits 1 where a reply is an error, is another request's, or does not come.
 */
public final class RequestReply implements AutoCloseable {
  private static final String REQUESTS = "personalization-requests";
  private static final String REPLIES = "personalization-replies";
  private static final int TIMEOUT_SECONDS = 60;
  private static final ObjectMapper JSON = new ObjectMapper();

  private final KafkaProducer<String, String> producer;
  private final KafkaConsumer<String, String> consumer;
  private final Thread reader = new Thread(this::read, "replies");
  /** Those who wait for a reply, by correlation id. */
  private final Map<String, CompletableFuture<JsonNode>> waiting = new ConcurrentHashMap<>();

  RequestReply(String brokers) {
    producer =
        new KafkaProducer<>(
            Map.of("bootstrap.servers", brokers), new StringSerializer(), new StringSerializer());
    // Without a group: this process alone wants these replies, from now on.
    consumer =
        new KafkaConsumer<>(
            Map.of("bootstrap.servers", brokers, "enable.auto.commit", "false"),
            new StringDeserializer(),
            new StringDeserializer());
    List<TopicPartition> partitions =
        consumer.partitionsFor(REPLIES).stream()
            .map(info -> new TopicPartition(info.topic(), info.partition()))
            .toList();
    consumer.assign(partitions);
    // Stands at the end before the first request is sent, so no reply can slip past.
    consumer.endOffsets(partitions).forEach(consumer::seek);
    reader.start();
  }

  private void read() {
    try {
      while (true) {
        for (var record : consumer.poll(Duration.ofSeconds(1))) {
          var header = record.headers().lastHeader("correlation-id");
          if (header == null) continue;
          // A reply may come twice after a crash of a worker; the first one counts.
          var future = waiting.remove(new String(header.value(), StandardCharsets.UTF_8));
          if (future != null) future.complete(JSON.readTree(record.value()));
        }
      }
    } catch (WakeupException end) {
      consumer.close();
    } catch (Exception error) {
      waiting.values().forEach(future -> future.completeExceptionally(error));
    }
  }

  CompletableFuture<JsonNode> ask(String user, String request) {
    String correlation = UUID.randomUUID().toString();
    var future = new CompletableFuture<JsonNode>().orTimeout(TIMEOUT_SECONDS, TimeUnit.SECONDS);
    waiting.put(correlation, future);
    var record = new ProducerRecord<>(REQUESTS, user, request);
    record.headers().add("reply-to", REPLIES.getBytes(StandardCharsets.UTF_8));
    record.headers().add("correlation-id", correlation.getBytes(StandardCharsets.UTF_8));
    producer.send(
        record,
        (place, error) -> {
          if (error != null) future.completeExceptionally(error);
        });
    return future;
  }

  @Override
  public void close() throws InterruptedException {
    consumer.wakeup();
    reader.join();
    producer.close();
  }

  public static void main(String[] arguments) throws Exception {
    int requests = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 8;
    int users = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 4;
    var failures = new AtomicInteger();
    try (var client =
        new RequestReply(
            System.getenv().getOrDefault("OPPU_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"))) {
      var asked =
          IntStream.range(0, requests)
              .mapToObj(
                  number -> {
                    String user = "user-" + number % users;
                    String id = UUID.randomUUID().toString();
                    String request =
                        JSON.createObjectNode()
                            .put("request_id", id)
                            .put("user_id", user)
                            .put("task", "film_tag")
                            .<com.fasterxml.jackson.databind.node.ObjectNode>set(
                                "input",
                                JSON.createObjectNode()
                                    .put(
                                        "film",
                                        "The Winter Bridge (1995): orphaned brothers say a last"
                                            + " farewell"))
                            .toString();
                    return client
                        .ask(user, request)
                        .handle(
                            (reply, error) -> {
                              if (error == null
                                  && reply.path("request_id").asText().equals(id)
                                  && reply.path("user_id").asText().equals(user)
                                  && reply.path("status").asText().equals("ok")) {
                                System.out.println(
                                    user + " " + id + " " + reply.path("output").asText());
                              } else {
                                failures.incrementAndGet();
                                System.err.println(id + ": " + (error != null ? error : reply));
                              }
                              return null;
                            });
                  })
              .toList();
      CompletableFuture.allOf(asked.toArray(CompletableFuture[]::new)).join();
    }
    System.exit(failures.get() == 0 ? 0 : 1);
  }
}
