# One image for every part of dogwatch; the command chooses the part.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile agent --locked --package agent \
    && cargo build --release --locked --bins \
        --package config-service --package ingest --package alerter \
        --package http-bridge --package cli \
    && mkdir /out \
    && cp target/agent/dogwatch-agent target/agent/dogwatch-resolve target/release/dogwatch target/release/dogwatch-config-service \
        target/release/dogwatch-ingest target/release/dogwatch-alerter target/release/dogwatch-http-bridge /out/

FROM debian:bookworm-slim
COPY --from=build /out/ /usr/local/bin/
# Webhooks by https need to know whom to trust.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY examples/ /usr/share/dogwatch/examples/
# A named volume takes over the owner of the folder that it is first mounted on: the parts run as 10001, not as root.
RUN mkdir -p /var/lib/dogwatch/secrets /var/lib/dogwatch/agent-secrets /var/lib/dogwatch/nats /var/lib/dogwatch/config /var/lib/dogwatch/results \
        /var/lib/dogwatch/alerts /var/lib/dogwatch/agent \
    && chown -R 10001:10001 /var/lib/dogwatch
USER 10001:10001
CMD ["dogwatch", "--help"]
