"""Forms for the pages of the service. They validate input before it is sent on."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Dict, Optional

from django import forms
from django.utils import timezone

LETTER = re.compile(r"^(refused|undeliverable)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
ID = re.compile(r"^[A-Za-z0-9_.:@-]{1,64}\Z")
KINDS = [("", "all kinds"), ("refused", "refused by Django"), ("undeliverable", "undeliverable")]
MAX_SEQUENCE = 2**63 - 1
MAX_REASON = 4096


class DeadLetterFilter(forms.Form):
    """A filter for the list."""

    kind = forms.ChoiceField(choices=KINDS, required=False)
    reason = forms.CharField(required=False, max_length=MAX_REASON, strip=False)
    # A reason may be a page of HTML. That is too long for a URL, and a form field changes its line
    # endings. So links name a dead letter that has the reason.
    like = forms.RegexField(LETTER, required=False, widget=forms.HiddenInput)
    after = forms.RegexField(LETTER, required=False, widget=forms.HiddenInput)


class DeadLetterAction(forms.Form):
    """An action on dead letters: those with `ids`, those with a `reason` (or the reason of `like`), or all."""

    REDRIVE, DROP, BY_REASON, ALL = "redrive", "drop", "redrive_reason", "redrive_all"

    action = forms.ChoiceField(choices=[(name, name) for name in (REDRIVE, DROP, BY_REASON, ALL)])
    reason = forms.CharField(required=False, max_length=MAX_REASON, strip=False)
    like = forms.RegexField(LETTER, required=False)
    confirmed = forms.BooleanField(required=False)

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.ids = data.getlist("ids")

    def clean(self) -> Dict[str, Any]:
        data = super().clean() or {}
        action = data.get("action")
        if action in (self.REDRIVE, self.DROP) and not self.ids:
            raise forms.ValidationError("No dead letter is selected.")
        if not all(LETTER.fullmatch(letter) for letter in self.ids):
            raise forms.ValidationError("This is not the id of a dead letter.")
        if action == self.BY_REASON and not (data.get("reason") or data.get("like")):
            raise forms.ValidationError("A reason is required.")
        return data


class Moment(forms.DateTimeInput):
    """The browser's input for date and time."""

    input_type = "datetime-local"

    def format_value(self, value: Any) -> Optional[str]:
        return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value


class ReplayForm(forms.Form):
    """The part of the log to send to Django again."""

    from_sequence = forms.IntegerField(
        required=False, min_value=1, max_value=MAX_SEQUENCE, help_text="1 is the beginning of the log"
    )
    from_time = forms.DateTimeField(required=False, widget=Moment, help_text="or everything since this time")
    to_sequence = forms.IntegerField(
        required=False, min_value=1, max_value=MAX_SEQUENCE, help_text="inclusive; the default is the current end of the log"
    )
    to_time = forms.DateTimeField(required=False, widget=Moment)
    conversation_id = forms.RegexField(ID, required=False, label="Conversation", help_text="only its messages")
    user_id = forms.RegexField(ID, required=False, label="Receiver", help_text="only messages to this user")
    rate = forms.IntegerField(
        required=False, min_value=1, max_value=1_000_000, help_text="maximum number of messages per second; 1,000 by default"
    )
    confirmed = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def clean(self) -> Dict[str, Any]:
        data = super().clean() or {}
        if self.errors:
            return data
        starts = [name for name in ("from_sequence", "from_time") if data.get(name)]
        if len(starts) != 1:
            raise forms.ValidationError("Give either a sequence or a time to start from.")
        if data.get("to_sequence") and data.get("to_time"):
            raise forms.ValidationError("Give either a sequence or a time to end at, not both.")
        return data

    def request(self) -> Dict[str, Any]:
        """The arguments of `MessagingClient.replay`."""
        chosen = {name: value for name, value in self.cleaned_data.items() if value and name != "confirmed"}
        for name in ("from_time", "to_time"):
            if name in chosen and timezone.is_naive(chosen[name]):
                chosen[name] = timezone.make_aware(chosen[name])
        return chosen
