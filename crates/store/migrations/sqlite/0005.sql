-- Finds the responses that continue a response.
CREATE INDEX objects_by_previous ON objects (previous) WHERE previous IS NOT NULL;
