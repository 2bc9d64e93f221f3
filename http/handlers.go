package http

import (
	"bytes"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"

	"github.com/julienschmidt/httprouter"
)

func (s *Server) health(*http.Request, httprouter.Params) (reply, error) {
	body := append([]byte(nil), `{"status":"ok","service":"messaging_service","timestamp":`...)
	body = strconv.AppendInt(body, s.config.Now().Unix(), 10)
	return reply{body: append(body, '}')}, nil
}

// ready is green when requests would be served: recovered, a disk that takes
// writes, and not stopping.
func (s *Server) ready(*http.Request, httprouter.Params) (reply, error) {
	b := s.backend.Load()
	recovered, draining := b != nil, s.draining.Load()
	disk := recovered && b.DiskOK()
	ready := recovered && disk && !draining
	rep := reply{status: http.StatusOK}
	word := "success"
	if !ready {
		rep.status, word = http.StatusServiceUnavailable, "error"
	}
	rep.body = append(rep.body, `{"status":"`+word+`"`...)
	for _, f := range []struct {
		name string
		is   bool
	}{{"ready", ready}, {"recovered", recovered}, {"disk", disk}, {"draining", draining}} {
		rep.body = append(rep.body, `,"`+f.name+`":`...)
		rep.body = strconv.AppendBool(rep.body, f.is)
	}
	rep.body = append(rep.body, '}')
	return rep, nil
}

func (s *Server) metrics(*http.Request, httprouter.Params) (reply, error) {
	var text bytes.Buffer
	s.writeMetrics(&text)
	return reply{contentType: "text/plain; version=0.0.4; charset=utf-8", body: text.Bytes()}, nil
}

func (s *Server) stats(*http.Request, httprouter.Params) (reply, error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	st := b.Stats()
	counters := []byte(nil)
	for i, c := range []struct {
		name  string
		value uint64
	}{
		{"messages_processed", st.Accepted},
		{"messages_persisted", st.Persisted},
		{"persistence_failures", st.Refused},
		{"persistence_errors", st.Unreached},
		{"messages_taken", st.Taken},
		{"messages_leased", st.Leased},
		{"messages_acknowledged", st.Acknowledged},
		{"messages_redelivered", st.Redelivered},
		{"messages_evicted", st.Evicted},
		{"messages_expired", st.Expired},
		{"messages_cleared", st.Cleared},
		{"duplicates", st.Duplicates},
	} {
		if i > 0 {
			counters = append(counters, ',')
		}
		counters = append(counters, `"`+c.name+`":`...)
		counters = strconv.AppendUint(counters, c.value, 10)
	}
	body := append([]byte(nil), `{"status":"success",`...)
	body = append(body, counters...)
	body = append(body, `,"queue_messages":`...)
	body = strconv.AppendInt(body, st.Queued, 10)
	body = append(body, `,"leases":`...)
	body = strconv.AppendInt(body, int64(st.Leases), 10)
	body = append(body, `,"waiting_readers":`...)
	body = strconv.AppendInt(body, int64(st.Waiting), 10)
	body = append(body, `,"fanouts":`...)
	body = strconv.AppendInt(body, int64(st.Fanouts), 10)
	body = append(body, `,"drain_lag_messages":`...)
	body = strconv.AppendUint(body, st.LagMessages, 10)
	body = append(body, `,"drain_lag_seconds":`...)
	body = strconv.AppendFloat(body, st.LagTime.Seconds(), 'f', 3, 64)
	body = append(body, `,"uptime_seconds":`...)
	body = strconv.AppendInt(body, int64(s.config.Now().Sub(s.started).Seconds()), 10)
	body = append(body, `,"memory":{"total":`...)
	body = strconv.AppendUint(body, memoryTotal(), 10)
	body = append(body, `},"process_count":`...)
	body = strconv.AppendInt(body, int64(runtime.NumGoroutine()), 10)
	body = append(body, `,"counters":{`...)
	body = append(body, counters...)
	return reply{body: append(body, "}}"...)}, nil
}

// memoryTotal is all memory that the runtime has mapped and not given back.
func memoryTotal() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
