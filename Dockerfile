# A proxy node. pg_dump has to fit the servers, so the image is theirs with Node's one binary put in.
FROM node:20-bookworm-slim AS build
WORKDIR /sluice
COPY . .
RUN npm ci && npm prune --omit=dev --ignore-scripts

FROM postgres:17-bookworm
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /sluice /sluice
USER postgres
EXPOSE 6432
ENTRYPOINT ["node", "/sluice/bin/sluice.js", "run"]
CMD ["--config", "/etc/sluice/pgdog.toml", "--users", "/etc/sluice/users.toml", "--sluice", "/etc/sluice/sluice.toml"]
