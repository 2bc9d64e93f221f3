package http

import (
	"errors"
	"net/http"
	"time"
)

// streamWriter writes the body of a streamed response. Each write must succeed within
// the timeout, so a client that stops reading ends the stream, and a client that reads
// may take as long as the stream lasts. After an error all writes return that error.
//
// A streamWriter is not safe for concurrent use.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	err     error // of the first failed write
}

// Write implements [io.Writer]. The bytes may stay in a buffer until Flush or the end.
func (s *streamWriter) Write(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.err = s.extend(); s.err != nil {
		return 0, s.err
	}
	n, s.err = s.w.Write(p)
	return n, s.err
}

// Flush sends everything that was written to the client.
func (s *streamWriter) Flush() error {
	if s.err != nil {
		return s.err
	}
	if s.err = s.extend(); s.err == nil {
		s.err = s.control.Flush()
	}
	return s.err
}

func (s *streamWriter) extend() error {
	err := s.control.SetWriteDeadline(time.Now().Add(s.timeout))
	if errors.Is(err, http.ErrNotSupported) { // a recorder in a test
		return nil
	}
	return err
}

// writeStream writes the body of a streamed response, and reports its result to the
// handler. It aborts the connection if the body is not complete: the status was already
// sent.
func (s *Server) writeStream(w http.ResponseWriter, r *http.Request, resp response) {
	stream := &streamWriter{w: w, control: http.NewResponseController(w), timeout: s.config.RequestTimeout}
	complete := false
	defer func() {
		if resp.onSent != nil {
			resp.onSent(complete)
		}
		resp.release()
		if !complete {
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http closes the connection
		}
	}()
	err := resp.stream(stream)
	if err == nil && r.Method != http.MethodHead {
		err = stream.Flush()
	}
	if err != nil && stream.err == nil {
		s.logger.ErrorContext(r.Context(), "a streamed response failed", "path", r.URL.Path, "error", err)
	}
	complete = err == nil
}
