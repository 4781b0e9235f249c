-- Before the upgrade: copies every table of the schema public into the schema "before".
CREATE SCHEMA before;
SELECT format('CREATE TABLE before.%1$I AS TABLE public.%1$I', tablename)
FROM pg_tables WHERE schemaname = 'public' \gexec
