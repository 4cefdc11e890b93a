# Stands for the image apache/kafka: a broker that takes its settings from KAFKA_*. The context holds the jars.
FROM debian:trixie-slim
RUN mkdir -p /usr/share/man/man1 && apt-get update && apt-get install -y -qq --no-install-recommends openjdk-21-jre-headless >/dev/null \
 && useradd --uid 1000 appuser && install -d -o appuser -g appuser /var/lib/kafka/data
COPY jars /opt/kafka/libs
COPY --chmod=0755 entry /opt/kafka/entry
USER appuser
VOLUME /var/lib/kafka/data
ENTRYPOINT ["/opt/kafka/entry"]
