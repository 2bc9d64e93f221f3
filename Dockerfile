# syntax=docker/dockerfile:1
ARG BUILDER_IMAGE=docker.io/library/golang:1.26
FROM ${BUILDER_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
ARG COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${VERSION} -X main.commit=${COMMIT}" -o /out/messaging ./cmd/messaging \
 && mkdir -p -m 0700 /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/messaging /messaging
COPY --from=build --chown=65532:65532 /out/data /var/lib/messaging
USER 65532:65532
ENV HTTP_ADDR=0.0.0.0 DATA_DIR=/var/lib/messaging
VOLUME /var/lib/messaging
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/messaging", "ping"]
ENTRYPOINT ["/messaging"]
CMD ["serve"]
