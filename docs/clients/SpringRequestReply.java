import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.TopicPartitionOffset;

/**
 * Many requests at once with Spring's ReplyingKafkaTemplate, without any setting but its own.
 *
 * <p>Needs org.springframework.kafka:spring-kafka and com.fasterxml.jackson.core:jackson-databind on the class path,
 * Java 17:
 *
 * <pre>java -cp "libs/*" docs/clients/SpringRequestReply.java [REQUESTS] [USERS] [own|shared]</pre>
 *
 * <p>With {@code own} (the default) this instance makes a reply topic for itself and deletes it at the end; its name
 * ends in -replies, which a worker allows unless it is told otherwise. With {@code shared} it reads
 * personalization-replies beside other instances, each of which sees all replies and takes its own.
 *
 * <p>OPPU_KAFKA_BOOTSTRAP_SERVERS names the broker (default localhost:9092). Prints a line for each reply: user,
 * request and output; exits 1 where a reply is an error, is another request's, or does not come.
 */
public final class SpringRequestReply {
  private static final String REQUESTS = "personalization-requests";
  private static final String SHARED_REPLIES = "personalization-replies";
  private static final Duration TIMEOUT = Duration.ofSeconds(60);
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    int requests = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 8;
    int users = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 4;
    boolean isShared = arguments.length > 2 && arguments[2].equals("shared");
    String brokers = System.getenv().getOrDefault("OPPU_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
    String instance = UUID.randomUUID().toString();
    String replies = isShared ? SHARED_REPLIES : instance + "-replies";
    int failures;
    try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", brokers))) {
      if (!isShared) admin.createTopics(List.of(new NewTopic(replies, 1, (short) 1))).all().get();
      try {
        failures = ask(brokers, instance, ends(admin, replies), isShared, requests, users);
      } finally {
        if (!isShared) admin.deleteTopics(List.of(replies)).all().get();
      }
    }
    System.exit(failures == 0 ? 0 : 1);
  }

  /** Where each partition ends now: from there on are the replies to what is asked from now on. */
  private static TopicPartitionOffset[] ends(Admin admin, String topic) throws Exception {
    var partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
    var latest =
        partitions.stream()
            .collect(
                Collectors.toMap(
                    info -> new TopicPartition(topic, info.partition()), info -> OffsetSpec.latest()));
    return admin.listOffsets(latest).all().get().entrySet().stream()
        .map(end -> new TopicPartitionOffset(topic, end.getKey().partition(), end.getValue().offset()))
        .toArray(TopicPartitionOffset[]::new);
  }

  private static int ask(
      String brokers,
      String instance,
      TopicPartitionOffset[] replies,
      boolean isShared,
      int requests,
      int users)
      throws Exception {
    var producers =
        new DefaultKafkaProducerFactory<>(
            Map.<String, Object>of("bootstrap.servers", brokers),
            new StringSerializer(),
            new StringSerializer());
    // A group of this instance alone: with one group for all, a reply could go to another instance.
    var consumers =
        new DefaultKafkaConsumerFactory<>(
            Map.<String, Object>of(
                "bootstrap.servers", brokers, "group.id", instance),
            new StringDeserializer(),
            new StringDeserializer());
    var container =
        new ConcurrentMessageListenerContainer<String, String>(
            consumers, new ContainerProperties(replies));
    var template = new ReplyingKafkaTemplate<String, String, String>(producers, container);
    template.setDefaultReplyTimeout(TIMEOUT);
    // Replies of others are passed over without an error in the log.
    template.setSharedReplyTopic(isShared);
    template.start();
    var failures = new AtomicInteger();
    try {
      var asked =
          IntStream.range(0, requests)
              .mapToObj(number -> one(template, "user-" + number % users, failures))
              .toList();
      CompletableFuture.allOf(asked.toArray(CompletableFuture[]::new)).join();
    } finally {
      template.stop();
      template.destroy();
      producers.destroy();
    }
    return failures.get();
  }

  private static CompletableFuture<Void> one(
      ReplyingKafkaTemplate<String, String, String> template, String user, AtomicInteger failures) {
    String id = UUID.randomUUID().toString();
    var request = JSON.createObjectNode().put("request_id", id).put("user_id", user).put("task", "film_tag");
    request.putObject("input").put("film", "The Winter Bridge (1995): orphaned brothers say a last farewell");
    // The template adds the headers that the worker answers to: topic and correlation id.
    return template
        .sendAndReceive(new ProducerRecord<>(REQUESTS, user, request.toString()))
        .handle(
            (record, error) -> {
              try {
                if (error != null) throw error;
                var reply = JSON.readTree(record.value());
                if (!reply.path("request_id").asText().equals(id)
                    || !reply.path("user_id").asText().equals(user)
                    || !reply.path("status").asText().equals("ok")) {
                  throw new IllegalStateException(record.value());
                }
                System.out.println(user + " " + id + " " + reply.path("output").asText());
              } catch (Throwable problem) {
                failures.incrementAndGet();
                System.err.println(id + ": " + problem);
              }
              return null;
            });
  }
}
