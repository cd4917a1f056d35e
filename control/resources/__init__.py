"""What operations take and give: the requests' and the resources' shapes by subject, and how rows become resources."""
