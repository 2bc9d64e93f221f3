import django.db.models.deletion
from django.db import migrations, models


def people(apps, schema_editor):
    """Conversations 1 to 20 and members 1 to 50 exist, and no others."""
    conversation = apps.get_model("chat", "Conversation")
    conversation.objects.bulk_create([conversation(id=i) for i in range(1, 21)])
    member = apps.get_model("chat", "Member")
    member.objects.bulk_create([member(id=i) for i in range(1, 51)])


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Member", [("id", models.BigAutoField(primary_key=True, serialize=False))]),
        migrations.CreateModel("Conversation", [("id", models.BigAutoField(primary_key=True, serialize=False))]),
        migrations.CreateModel(
            "Message",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("uuid", models.UUIDField(unique=True)),
                ("sequence", models.BigIntegerField()),
                ("receiver_id", models.CharField(max_length=64)),
                ("text", models.TextField()),
                ("message_type", models.CharField(max_length=20)),
                ("metadata", models.JSONField()),
                ("created_at", models.DateTimeField()),
                (
                    "conversation",
                    models.ForeignKey("chat.Conversation", on_delete=django.db.models.deletion.CASCADE, null=True),
                ),
                (
                    "sender",
                    models.ForeignKey("chat.Member", on_delete=django.db.models.deletion.CASCADE, related_name="+"),
                ),
            ],
        ),
        migrations.RunPython(people, migrations.RunPython.noop),
    ]
