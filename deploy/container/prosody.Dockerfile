# Prosody from Debian with the very file that tests/servers/interop.rs runs.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends prosody lua-unbound && rm -rf /var/lib/apt/lists/*
COPY deploy/prosody/prosody.cfg.lua /tmp/prosody.cfg.lua
RUN sed -e 's|@DOMAIN@|example.com|' -e 's|@ADDRESS@|10.77.0.5|' -e 's|@DATA@|/var/lib/prosody|' \
    -e 's|@RUN@|/run/prosody|' /tmp/prosody.cfg.lua > /etc/prosody/prosody.cfg.lua \
    && install -d -o prosody -g prosody /run/prosody
USER prosody
ENTRYPOINT ["prosody"]
CMD ["-F"]
