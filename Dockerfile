# Annotator for web servers and workers; what it runs is chosen by the command.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements requirements
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/web.lock \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/ml.lock \
 && torch="$(grep '^torch==' requirements/torch.txt)" \
 && /venv/bin/pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu "${torch}+cpu" \
 && /venv/bin/pip install --no-cache-dir --no-deps "$(grep '^torchvision==' requirements/torch.txt)"

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 annotator && mkdir /data && chown annotator /data
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY annotator annotator
COPY queue queue
COPY ml ml
COPY templates templates
COPY static static
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=annotator.settings \
    ANNOTATOR_DATA_DIR=/data
USER annotator
VOLUME /data
EXPOSE 8000
CMD ["gunicorn", "annotator.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "3", "--threads", "8", "--timeout", "120", "--no-control-socket"]
