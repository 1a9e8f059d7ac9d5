import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_initial'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('labeling', '0002_append_only'),
    ]

    operations = [
        migrations.AddField(
            model_name='apitoken',
            name='created_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        # The tokens there are keep what they could do.
        migrations.AddField(
            model_name='apitoken',
            name='scope',
            field=models.PositiveSmallIntegerField(choices=[(10, 'Read'), (20, 'Annotate'), (30, 'Manage')], default=30),
        ),
        migrations.AlterField(
            model_name='apitoken',
            name='scope',
            field=models.PositiveSmallIntegerField(choices=[(10, 'Read'), (20, 'Annotate'), (30, 'Manage')], default=10),
        ),
        migrations.AddField(
            model_name='user',
            name='service_of',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='services', to='labeling.project'),
        ),
        migrations.AddConstraint(
            model_name='apitoken',
            constraint=models.CheckConstraint(condition=models.Q(('scope__in', [10, 20, 30])), name='token_scope_is_known'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.CheckConstraint(condition=models.Q(('service_of__isnull', True), models.Q(('is_staff', False), ('is_superuser', False), ('password__startswith', '!')), _connector='OR'), name='a_service_cannot_sign_in'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(condition=models.Q(('service_of__isnull', False)), fields=('service_of', 'first_name'), name='one_service_per_name'),
        ),
    ]
