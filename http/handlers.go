package http

import (
	"net/http"
	"runtime"
	"runtime/metrics"
)

func (s *Server) health(*request) (response, error) {
	return jsonResponse(healthResponse{"ok", "messaging_service", s.config.Now().Unix()})
}

// ready returns 200 if requests can be served: the store is recovered, the disk accepts
// writes, and the service is not stopping.
func (s *Server) ready(*request) (response, error) {
	b := s.backend.Load()
	recovered, draining := b != nil, s.draining.Load()
	disk := recovered && b.DiskOK()
	ready := recovered && disk && !draining
	content := readyResponse{Status: "success", Ready: ready, Recovered: recovered, Disk: disk, Draining: draining}
	status := http.StatusOK
	if !ready {
		content.Status, status = "error", http.StatusServiceUnavailable
	}
	resp, err := jsonResponse(content)
	resp.status = status
	return resp, err
}

func (s *Server) metrics(*request) (response, error) {
	return response{contentType: "text/plain; version=0.0.4; charset=utf-8", stream: func(w *streamWriter) error {
		s.writeMetrics(w)
		return w.err
	}}, nil
}

func (s *Server) stats(*request) (response, error) {
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	st := b.Stats()
	counts := counters{
		Processed: st.Accepted, Persisted: st.Persisted, Failures: st.Refused, Errors: st.Unreached,
		Taken: st.Taken, Leased: st.Leased, Acknowledged: st.Acknowledged, Redelivered: st.Redelivered,
		Evicted: st.Evicted, Expired: st.Expired, Cleared: st.Cleared, Duplicates: st.Duplicates,
	}
	return jsonResponse(statsResponse{
		success: succeeded(), counters: counts, Counters: counts,
		Queued: st.Queued, Leases: st.Leases, LongPolls: st.Waiting, WaitingReaders: st.Waiting, Fanouts: st.Fanouts,
		Drain: string(st.Drain), LagMessages: st.LagMessages, LagSeconds: milliseconds(st.LagTime),
		Uptime: int64(s.config.Now().Sub(s.started).Seconds()), Memory: memoryStats{memoryTotal()}, Goroutines: runtime.NumGoroutine(),
	})
}

// memoryTotal returns the bytes of memory that the runtime has mapped and not returned
// to the operating system.
func memoryTotal() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
