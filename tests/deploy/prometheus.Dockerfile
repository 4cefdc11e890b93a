# Stands for the image prom/prometheus.
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y -qq --no-install-recommends prometheus >/dev/null && install -d -o nobody -g nogroup /prometheus
USER nobody
VOLUME /prometheus
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
