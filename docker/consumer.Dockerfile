# The example consumers in Python, for compose.yaml.
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-confluent-kafka python3-redis \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10002 --user-group --home-dir /work --create-home consumer
COPY --chmod=0755 examples/python/ /usr/local/bin/
USER 10002:10002
WORKDIR /work
ENTRYPOINT ["/usr/bin/env"]
