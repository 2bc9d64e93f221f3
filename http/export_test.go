package http

// Route is a row of the table of calls.
type Route struct{ Method, Path string }

// Routes returns the table of calls.
func (s *Server) Routes() (routes []Route) {
	for _, r := range s.table() {
		routes = append(routes, Route{r.method, r.path})
	}
	return routes
}
