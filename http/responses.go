package http

import (
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
)

// The JSON library writes the responses of this file, which operators read. Sends,
// takes and errors append their JSON themselves (sends.go, queues.go, errors.go),
// because it is faster: see BenchmarkTakeResponse.

// jsonResponse returns a response with status 200.
func jsonResponse(content any) (response, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return response{}, messaging.Internal(err)
	}
	return response{status: http.StatusOK, body: body}, nil
}

// withMember appends a member, which is JSON already, to an object. It is for
// messages: the library would remove the white space of their bodies.
func withMember(object []byte, name string, value func(dst []byte) []byte) []byte {
	object = append(object[:len(object)-1], `,"`+name+`":`...)
	return append(value(object), '}')
}

// success is the first member of every successful response.
type success struct {
	Status string `json:"status"` // "success"
}

func succeeded() success { return success{"success"} }

// timestamp is a time that is written in UTC with milliseconds.
type timestamp time.Time

// MarshalText implements [encoding.TextMarshaler].
func (t timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00"), nil
}

// IsZero reports whether there is no time.
func (t timestamp) IsZero() bool { return time.Time(t).IsZero() }

type healthResponse struct {
	Status    string `json:"status"`
	Service   string `json:"service"`
	Timestamp int64  `json:"timestamp"` // Unix seconds
}

type readyResponse struct {
	Status    string `json:"status"`
	Ready     bool   `json:"ready"`
	Recovered bool   `json:"recovered"`
	Disk      bool   `json:"disk"`
	Draining  bool   `json:"draining"`
}

// counters are the counters of the statistics. A response has them twice: as members
// and in the object counters.
type counters struct {
	Processed    uint64 `json:"messages_processed"`
	Persisted    uint64 `json:"messages_persisted"`
	Failures     uint64 `json:"persistence_failures"`
	Errors       uint64 `json:"persistence_errors"`
	Taken        uint64 `json:"messages_taken"`
	Leased       uint64 `json:"messages_leased"`
	Acknowledged uint64 `json:"messages_acknowledged"`
	Redelivered  uint64 `json:"messages_redelivered"`
	Evicted      uint64 `json:"messages_evicted"`
	Expired      uint64 `json:"messages_expired"`
	Cleared      uint64 `json:"messages_cleared"`
	Duplicates   uint64 `json:"duplicates"`
}

type statsResponse struct {
	success
	counters

	Queued         int64       `json:"queue_messages"`
	Leases         int         `json:"leases"`
	LongPolls      int         `json:"long_polls"`
	WaitingReaders int         `json:"waiting_readers"` // the former name of long_polls
	Fanouts        int         `json:"fanouts"`
	Drain          string      `json:"drain"`
	LagMessages    uint64      `json:"drain_lag_messages"`
	LagSeconds     float64     `json:"drain_lag_seconds"`
	Uptime         int64       `json:"uptime_seconds"`
	Memory         memoryStats `json:"memory"`
	Goroutines     int         `json:"process_count"`
	Counters       counters    `json:"counters"`
}

type memoryStats struct {
	Total uint64 `json:"total"` // bytes
}

// milliseconds returns a duration in seconds, rounded to milliseconds.
func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// jobView is the JSON form of a job.
type jobView struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	State      string    `json:"state"`
	Done       uint64    `json:"done"`
	Total      uint64    `json:"total"`
	Failed     uint64    `json:"failed"`
	ETA        *int64    `json:"eta_seconds"`
	Error      *string   `json:"error"`
	CreatedAt  timestamp `json:"created_at,omitzero"`
	FinishedAt timestamp `json:"finished_at,omitzero"`
}

func viewOfJob(j *messaging.Job) jobView {
	v := jobView{
		ID: j.ID, Kind: string(j.Kind), State: string(j.State), Done: j.Done, Total: j.Total, Failed: j.Failed,
		CreatedAt: timestamp(j.CreatedAt), FinishedAt: timestamp(j.FinishedAt),
	}
	if j.State == messaging.JobRunning && j.ETA >= 0 {
		seconds := int64(j.ETA.Round(time.Second) / time.Second)
		v.ETA = &seconds
	}
	if j.Error != "" {
		text := validText(j.Error)
		v.Error = &text
	}
	return v
}

type jobResponse struct {
	success

	Job jobView `json:"job"`
}

type jobsResponse struct {
	success

	Jobs  []jobView `json:"jobs"`
	Count int       `json:"count"`
}

// deadLetterView is the JSON form of a dead letter, without its message.
type deadLetterView struct {
	ID         string                   `json:"id"`
	Kind       messaging.DeadLetterKind `json:"kind"`
	Reason     string                   `json:"reason"`
	StatusCode *int                     `json:"status_code"`
	Attempts   int                      `json:"attempts"`
	FailedAt   timestamp                `json:"failed_at"`
	Recipients int                      `json:"recipients"`
}

// deadLetterJSON returns a dead letter with its message, byte for byte as it was
// sent.
func deadLetterJSON(d *messaging.DeadLetter) ([]byte, error) {
	v := deadLetterView{
		ID: d.ID, Kind: d.Kind, Reason: validText(d.Reason), Attempts: d.Attempts, FailedAt: timestamp(d.FailedAt), Recipients: d.Recipients,
	}
	if d.StatusCode != 0 {
		v.StatusCode = &d.StatusCode
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, messaging.Internal(err)
	}
	return withMember(text, "message", d.Message.AppendJSON), nil
}

// deadLettersPage is a page of the listing, without its dead letters.
type deadLettersPage struct {
	success

	Count int     `json:"count"`
	Total int     `json:"total"`
	Next  *string `json:"next"`
}

type deletedResponse struct {
	success

	Deleted string `json:"deleted"`
}

type clearedResponse struct {
	success

	User    messaging.UserID `json:"user_id"`
	Cleared uint64           `json:"cleared"`
}

type sizeResponse struct {
	success

	User    messaging.UserID `json:"user_id"`
	High    uint64           `json:"high"`
	Normal  uint64           `json:"normal"`
	Low     uint64           `json:"low"`
	Leased  uint64           `json:"leased"`
	Delayed uint64           `json:"delayed"`
	Total   uint64           `json:"total"`
}

// validText replaces invalid UTF-8 in a text, such as a reason that was cut within a
// character.
func validText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
