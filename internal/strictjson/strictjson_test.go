package strictjson_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/internal/strictjson"
)

// read reads a document that must be one object, and returns its members.
func read(document string) (members []string, err error) {
	d := strictjson.New([]byte(document))
	defer d.Free()
	err = d.Object(func(m strictjson.Member) error {
		value, err := d.Value()
		if err == nil {
			members = append(members, fmt.Sprintf("%s=%s@%d-%d", m.Name, value, m.From, d.Offset()))
		}
		return err
	})
	if err == nil {
		err = d.Finish()
	}
	return members, err
}

func TestAnObjectIsReadMemberByMember(t *testing.T) {
	members, err := read(` {"a" : [1, 2],"\u0062\"":"x\\u0000" , "c":{}} `)
	if got := fmt.Sprint(members); err != nil || got != `[a=[1, 2]@2-14 b"="x\\u0000"@14-36 c={}@36-45]` {
		t.Errorf("%s %v", got, err)
	}
}

func TestWhatIsNotStrictIsRefused(t *testing.T) {
	for document, want := range map[string]strictjson.Kind{
		``:                         strictjson.Malformed,
		` `:                        strictjson.Malformed,
		`{`:                        strictjson.Malformed,
		`{"a":1`:                   strictjson.Malformed,
		`{"a":1}}`:                 strictjson.Malformed,
		`{"a":1} {}`:               strictjson.Malformed,
		`{'a':1}`:                  strictjson.Malformed,
		`{"a":NaN}`:                strictjson.Malformed,
		`{"a":1,"a":2}`:            strictjson.DuplicateName,
		`{"a":{"b":1,"\u0062":2}}`: strictjson.DuplicateName,
		"{\"a\":\"\xff\"}":         strictjson.BadText,
		"{\"a\":\"\n\"}":           strictjson.BadText,
		`{"a":"\udc00"}`:           strictjson.BadText,
		`{"a":"\u0000"}`:           strictjson.BadText,
		`{"\u0000":1}`:             strictjson.BadText,
		`{"a":` + strings.Repeat("[", strictjson.MaxDepth) + strings.Repeat("]", strictjson.MaxDepth) + `}`: strictjson.TooDeep,
		`{"a":` + strings.Repeat("[", 20_000): strictjson.TooDeep,
	} {
		_, err := read(document)
		e, ok := errors.AsType[*strictjson.Error](err)
		if !ok || e.Kind != want || !strings.HasPrefix(e.Text, "Invalid JSON: ") {
			t.Errorf("%.60q: %v, want kind %d", document, err, want)
		}
	}
	if _, err := read(`{"a":` + strings.Repeat("[", strictjson.MaxDepth-1) + strings.Repeat("]", strictjson.MaxDepth-1) + `}`); err != nil {
		t.Errorf("at the largest depth: %v", err)
	}
}
