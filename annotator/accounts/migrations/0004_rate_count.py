from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_tokens'),
    ]

    operations = [
        migrations.CreateModel(
            name='RateCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=100)),
                ('window', models.BigIntegerField(help_text='its start, in seconds since 1970')),
                ('n', models.IntegerField(default=0)),
            ],
            options={
                'indexes': [models.Index(fields=['window'], name='rate_count_window')],
                'constraints': [models.UniqueConstraint(fields=('key', 'window'), name='one_count_per_window')],
            },
        ),
    ]
