package http

import (
	"github.com/stayafrica/messaging"
)

// maxRequest is the largest body of a call that starts a job, in bytes.
const maxRequest = messaging.MaxBody

func (s *Server) redrive(r *request) (response, error) {
	return s.startJob(r, func(jobs Jobs, body []byte) (messaging.Job, error) {
		request, err := parseRedrive(body)
		if err != nil {
			return messaging.Job{}, err
		}
		return jobs.Redrive(request)
	})
}

func (s *Server) replay(r *request) (response, error) {
	return s.startJob(r, func(jobs Jobs, body []byte) (messaging.Job, error) {
		request, err := parseReplay(body)
		if err != nil {
			return messaging.Job{}, err
		}
		return jobs.Replay(request)
	})
}

func (s *Server) startJob(r *request, start func(jobs Jobs, body []byte) (messaging.Job, error)) (resp response, err error) {
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	err = s.body(r, maxRequest, 1, func(body []byte) error {
		if err := r.share.StartJob(func(id string) bool { return isRunning(b.Jobs, id) }); err != nil {
			return err
		}
		job, err := start(b.Jobs, body)
		if err != nil {
			return err
		}
		r.share.Started(job.ID)
		r.subject = job.ID
		resp, err = jobJSON(&job)
		return err
	})
	return resp, err
}

func jobJSON(job *messaging.Job) (response, error) {
	return jsonResponse(jobResponse{succeeded(), viewOfJob(job)})
}

func (s *Server) listJobs(*request) (response, error) {
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	jobs, err := b.Jobs.ListJobs()
	if err != nil {
		return response{}, err
	}
	views := make([]jobView, len(jobs))
	for i := range jobs {
		views[i] = viewOfJob(&jobs[i])
	}
	return jsonResponse(jobsResponse{succeeded(), views, len(views)})
}

func (s *Server) showJob(r *request) (response, error) {
	return s.oneJob(r, Jobs.FindJob)
}

func (s *Server) cancelJob(r *request) (response, error) {
	return s.oneJob(r, Jobs.CancelJob)
}

func (s *Server) oneJob(r *request, do func(jobs Jobs, id string) (messaging.Job, bool, error)) (response, error) {
	b, err := s.open()
	if err != nil {
		return response{}, err
	}
	job, ok, err := do(b.Jobs, r.params.ByName("id"))
	if err != nil {
		return response{}, err
	}
	if !ok {
		return response{}, messaging.Errorf(messaging.CodeNotFound, "there is no such job")
	}
	return jobJSON(&job)
}

// isRunning reports whether a job runs. A job whose state cannot be read may run.
func isRunning(jobs Jobs, id string) bool {
	job, ok, err := jobs.FindJob(id)
	return err != nil || (ok && job.State == messaging.JobRunning)
}
