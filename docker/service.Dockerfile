# The service: onnxruntime and FastAPI, no torch. Built from the top of the repository.
FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The dependencies have a layer of their own: a change of code installs none of them again. The
# build backend comes after them, or what it shares with them would be left out of the prefix.
COPY pyproject.toml constraints.txt docker/requirements.py ./
ARG EXTRAS="service postgres"
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py build >build.txt \
    && python requirements.py $EXTRAS >service.txt \
    && pip install --quiet --prefix=/dependencies -c constraints.txt -r service.txt \
    && pip install --quiet -r build.txt

# What is never loaded: tests, stubs and lexers, Arrow's clients of other servers than object stores
# and second copies of a library of its own, and what changes models instead of running them.
RUN cd /dependencies/lib/python3.*/site-packages \
    && find . -depth -type d \( -name tests -o -path ./sqlalchemy/testing \) -exec rm -r {} + \
    && find . -name '*.p[xy][dix]' -delete \
    && (cd pyarrow && rm -rf include includes src libarrow_flight* _flight* \
        libarrow_python_flight* libarrow_python*.so libarrow_python*.so.*.*) \
    && (cd numpy && rm -rf distutils f2py) \
    && rm -r pygments/lexers/[a-z]* pygments/lexers/__pycache__/[a-z]* \
    && (cd onnxruntime && rm -rf transformers quantization tools datasets)

COPY README.md LICENSE ./
COPY models models
COPY service service
COPY training training
RUN pip wheel --quiet --no-cache-dir --no-build-isolation --no-deps --wheel-dir=dist . \
    && pip install --quiet --no-cache-dir --no-deps --no-index --prefix=/package dist/*.whl


FROM python:3.11-slim
COPY --from=build /dependencies /usr/local
COPY --from=build /package /usr/local
# A volume that is mounted here for the first time takes its owner over.
RUN install --directory --owner=10001 --group=10001 --mode=700 /state
WORKDIR /tmp
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 HOME=/tmp \
    XDG_STATE_HOME=/state FAULTCUBE_HOST=0.0.0.0 FAULTCUBE_PORT=8000
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
