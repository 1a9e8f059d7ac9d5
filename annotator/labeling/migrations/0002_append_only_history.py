from django.db import migrations

from annotator.append_only import protect


class Migration(migrations.Migration):
    dependencies = [("labeling", "0001_initial")]

    operations = [
        # is_current says which row counts now; everything a row tells stays as it was.
        protect(
            "labeling_annotation",
            columns=[
                "image_id", "author_id", "action", "outcome", "source", "replaces_id", "served",
                "seconds", "created_at",
            ],
        ),
        protect("labeling_annotationregion"),
    ]
