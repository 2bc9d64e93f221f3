package http

import (
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

// maxRequest bounds the body of a call that starts a job.
const maxRequest = messaging.MaxBody

func (s *Server) redrive(r *http.Request, _ httprouter.Params) (reply, error) {
	return s.startJob(r, func(jobs Jobs, body []byte) (messaging.Job, error) {
		request, err := messaging.ParseRedrive(body)
		if err != nil {
			return messaging.Job{}, err
		}
		return jobs.Redrive(request)
	})
}

func (s *Server) replay(r *http.Request, _ httprouter.Params) (reply, error) {
	return s.startJob(r, func(jobs Jobs, body []byte) (messaging.Job, error) {
		request, err := messaging.ParseReplay(body)
		if err != nil {
			return messaging.Job{}, err
		}
		return jobs.Replay(request)
	})
}

func (s *Server) startJob(r *http.Request, start func(jobs Jobs, body []byte) (messaging.Job, error)) (rep reply, err error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	err = s.body(r, maxRequest, 1, func(body []byte) error {
		job, err := start(b.Jobs, body)
		if err != nil {
			return err
		}
		rep = jobReply(&job)
		return nil
	})
	return rep, err
}

func jobReply(job *messaging.Job) reply {
	body := append([]byte(nil), `{"status":"success","job":`...)
	return reply{body: append(job.AppendJSON(body), '}')}
}

func (s *Server) listJobs(*http.Request, httprouter.Params) (reply, error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	jobs, err := b.Jobs.ListJobs()
	if err != nil {
		return reply{}, err
	}
	body := append([]byte(nil), `{"status":"success","jobs":[`...)
	for i := range jobs {
		if i > 0 {
			body = append(body, ',')
		}
		body = jobs[i].AppendJSON(body)
	}
	body = append(body, `],"count":`...)
	body = strconv.AppendInt(body, int64(len(jobs)), 10)
	return reply{body: append(body, '}')}, nil
}

func (s *Server) showJob(_ *http.Request, params httprouter.Params) (reply, error) {
	return s.oneJob(params, Jobs.FindJob)
}

func (s *Server) cancelJob(_ *http.Request, params httprouter.Params) (reply, error) {
	return s.oneJob(params, Jobs.CancelJob)
}

func (s *Server) oneJob(params httprouter.Params, do func(jobs Jobs, id string) (messaging.Job, bool, error)) (reply, error) {
	b, err := s.open()
	if err != nil {
		return reply{}, err
	}
	job, ok, err := do(b.Jobs, params.ByName("id"))
	if err != nil {
		return reply{}, err
	}
	if !ok {
		return reply{}, messaging.Errorf(messaging.CodeNotFound, "there is no such job")
	}
	return jobReply(&job), nil
}
