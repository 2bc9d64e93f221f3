package http

import (
	_ "embed"
)

// openAPIDocument is the description of the interface (OpenAPI 3.1). Tests compare the
// responses of every route with it.
//
//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(*request) (response, error) {
	return response{body: openAPIDocument}, nil
}
