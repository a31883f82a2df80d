# The service: onnxruntime and FastAPI, no torch. Built from the top of the repository.
FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The dependencies have a layer of their own: a change of code installs none of them again. The
# build backend comes after them, or what it shares with them would be left out of the prefix.
COPY pyproject.toml constraints.txt docker/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py build >build.txt \
    && python requirements.py service >service.txt \
    && pip install --quiet --prefix=/dependencies -c constraints.txt -r service.txt \
    && pip install --quiet -r build.txt

# Of Arrow, streams are all that is used: its clients of other servers are a third of it.
RUN cd /dependencies/lib/python3.*/site-packages/pyarrow \
    && rm -rf tests include src libarrow_flight* _flight* libarrow_s3* _s3fs*

COPY README.md LICENSE ./
COPY models models
COPY service service
COPY training training
RUN pip wheel --quiet --no-cache-dir --no-build-isolation --no-deps --wheel-dir=dist . \
    && pip install --quiet --no-cache-dir --no-deps --no-index --prefix=/package dist/*.whl


FROM python:3.11-slim
COPY --from=build /dependencies /usr/local
COPY --from=build /package /usr/local
WORKDIR /tmp
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 HOME=/tmp \
    FAULTCUBE_HOST=0.0.0.0 FAULTCUBE_PORT=8000
USER 10001:10001
EXPOSE 8000
# http.client, because urllib would ask a proxy that the container was given.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import http.client, os, ssl, sys; \
where = '127.0.0.1', int(os.environ['FAULTCUBE_PORT']); \
tls = 'FAULTCUBE_TLS_CERT' in os.environ; \
context = {'context': ssl._create_unverified_context()} if tls else {}; \
kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection; \
health = kind(*where, timeout=2, **context); \
health.request('GET', '/readyz'); \
sys.exit(health.getresponse().status != 200)"]
ENTRYPOINT ["faultcube"]
CMD ["serve"]
