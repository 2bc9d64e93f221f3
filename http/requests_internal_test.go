package http

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
)

func TestRequestsOnLeasesJobsAndDeadLettersAreStrict(t *testing.T) {
	receipts := func(option string) func(string) error {
		return func(body string) error { _, err := parseReceipts([]byte(body), option); return err }
	}
	redrive := func(body string) error { _, err := parseRedrive([]byte(body)); return err }
	replay := func(body string) error { _, err := parseReplay([]byte(body)); return err }
	const letter = "refused-01a20b45-1895-76bd-b871-3ccb78a69ece"
	for _, c := range []struct {
		parse func(string) error
		body  string
		code  messaging.Code
		field string
	}{
		{receipts(""), `{"user_id":1,"receipts":["a"]}`, "", ""},
		{receipts(""), `{"user_id":"a-b","receipts":["a","b"]}`, "", ""},
		{receipts(""), `{"receipts":["a"]}`, messaging.CodeMissingField, "user_id"},
		{receipts(""), `{"user_id":1}`, messaging.CodeMissingField, "receipts"},
		{receipts(""), `{"user_id":1,"receipts":[]}`, messaging.CodeInvalidField, "receipts"},
		{receipts(""), `{"user_id":1,"receipts":"a"}`, messaging.CodeInvalidField, "receipts"},
		{receipts(""), `{"user_id":1,"receipts":["a",null]}`, messaging.CodeInvalidField, "receipts"},
		{receipts(""), `{"user_id":1.5,"receipts":["a"]}`, messaging.CodeInvalidField, "user_id"},
		{receipts(""), `{"user_id":1,"receipts":["a"],"lease":5}`, messaging.CodeInvalidField, ""},
		{receipts(""), fmt.Sprintf(`{"user_id":1,"receipts":[%s"a"]}`, strings.Repeat(`"a",`, messaging.MaxReceipts)), messaging.CodeTooLarge, "receipts"},
		{receipts("lease"), `{"user_id":1,"receipts":["a"],"lease":3600}`, "", ""},
		{receipts("lease"), `{"user_id":1,"receipts":["a"]}`, messaging.CodeMissingField, "lease"},
		{receipts("lease"), `{"user_id":1,"receipts":["a"],"lease":0}`, messaging.CodeInvalidField, "lease"},
		{receipts("lease"), `{"user_id":1,"receipts":["a"],"lease":3601}`, messaging.CodeInvalidField, "lease"},
		{receipts("delay_seconds"), `{"user_id":1,"receipts":["a"],"delay_seconds":0.5}`, "", ""},
		{receipts("delay_seconds"), `{"user_id":1,"receipts":["a"],"delay_seconds":-1}`, messaging.CodeInvalidField, "delay_seconds"},
		{receipts("delay_seconds"), `{"user_id":1,"receipts":["a"],"delay_seconds":86401}`, messaging.CodeInvalidField, "delay_seconds"},
		{receipts("delay_seconds"), `{"user_id":1,"user_id":1,"receipts":["a"]}`, messaging.CodeDuplicateKey, ""},
		{redrive, `{"all":true}`, "", ""},
		{redrive, `{"all":true,"kind":"refused"}`, "", ""},
		{redrive, `{"reason":"x"}`, "", ""},
		{redrive, `{"ids":["` + letter + `"]}`, "", ""},
		{redrive, `{}`, messaging.CodeInvalidField, ""},
		{redrive, `{"all":false}`, messaging.CodeInvalidField, "all"},
		{redrive, `{"all":true,"reason":"x"}`, messaging.CodeInvalidField, ""},
		{redrive, `{"ids":["x"]}`, messaging.CodeInvalidField, "ids"},
		{redrive, `{"ids":["` + letter + `"],"kind":"refused"}`, messaging.CodeInvalidField, "kind"},
		{redrive, `{"all":true,"kind":"x"}`, messaging.CodeInvalidField, "kind"},
		{redrive, `null`, messaging.CodeInvalidJSON, ""},
		{replay, `{"from_sequence":1}`, "", ""},
		{replay, `{"from_time":"2026-01-02T03:04:05Z","to_sequence":9,"rate":10,"user_id":"a","conversation_id":5}`, "", ""},
		{replay, `{}`, messaging.CodeMissingField, "from_sequence"},
		{replay, `{"from_sequence":0}`, messaging.CodeInvalidField, "from_sequence"},
		{replay, `{"from_sequence":1.0}`, messaging.CodeInvalidField, "from_sequence"},
		{replay, `{"from_sequence":1,"from_time":"2026-01-02T03:04:05Z"}`, messaging.CodeInvalidField, ""},
		{replay, `{"from_time":"yesterday"}`, messaging.CodeInvalidField, "from_time"},
		{replay, `{"from_sequence":1,"rate":0}`, messaging.CodeInvalidField, "rate"},
		{replay, `{"from_sequence":1,"rate":1000001}`, messaging.CodeInvalidField, "rate"},
		{replay, `{"from_sequence":1,"user_id":""}`, messaging.CodeInvalidField, "user_id"},
	} {
		err := c.parse(c.body)
		e, ok := errors.AsType[*messaging.Error](err)
		if (c.code == "") != (err == nil) || (err != nil && (!ok || e.Code != c.code || e.Field != c.field)) {
			t.Errorf("%.80s: got %v (%+v), want %s %s", c.body, err, e, c.code, c.field)
		}
	}
}
