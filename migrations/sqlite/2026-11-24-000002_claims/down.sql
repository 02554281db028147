alter table channels drop column claim_rotation;
